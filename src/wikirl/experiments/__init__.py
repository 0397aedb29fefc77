"""Studies made of recipes."""
