"""Suite files, and the frozen twins that ship with them."""
