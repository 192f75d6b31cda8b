"""What the commands `check` and `doctor` look at beyond one file.

Belongs here: checks against what other files, the machine and running programs hold. What is wrong within one of our
files is found where it is loaded.
"""
