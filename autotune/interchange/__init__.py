"""Other projects' tuned tables, both ways, row by row. What cannot be mapped is listed, never guessed."""
