"""Where builds take files from beside local directories: git, http, image layouts, archives."""
