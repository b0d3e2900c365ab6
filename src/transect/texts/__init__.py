"""Texts: files and data sets as rows, template sentences with landmarks, tokens; one spec string opens any of
them."""
