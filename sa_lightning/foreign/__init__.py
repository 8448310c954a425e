"""What others wrote: shown and not obeyed, read within limits."""
