"""The recipe ``views``: digits in five pictures with different backgrounds, and their class."""
