"""Texts, sounds and depth beside pictures: data that anyone can make, and what models of the recipes answer, judged."""
