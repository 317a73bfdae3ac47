"""What should be and what is: states, plans and their application."""
