"""What happens to the selected entries: they step along the delta, lose what lies along it, or get another value."""
