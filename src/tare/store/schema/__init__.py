"""Numbered SQL scripts; a script that was released is never edited."""
