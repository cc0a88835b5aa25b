"""Other projects' tuned tables, both ways, row by row. What cannot be mapped is listed with its reason, never guessed."""
