"""The command line. One file per command, each with a click command of its file's name. Heavy imports happen
inside the function."""
