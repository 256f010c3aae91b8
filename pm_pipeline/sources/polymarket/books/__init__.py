"""Order books: present ones, recorded frames, and archives of others."""
