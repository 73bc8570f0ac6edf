"""`plan`: check, run and measure runbooks that rehearse a recovery."""
