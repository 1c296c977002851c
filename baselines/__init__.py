"""What answers: the interpreters that ship with unfooled, and adapters for other libraries."""
