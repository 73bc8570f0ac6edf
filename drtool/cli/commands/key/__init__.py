"""`key`: manage the passwords that open the repository."""
