"""What each option takes: its type from the help that is kept, its range from `ranges`, and what both refuse."""
