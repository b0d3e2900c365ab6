"""How many texts does an effect of a given size need?"""
