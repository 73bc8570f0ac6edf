"""The language of plans: files to typed, frozen values; expressions; what is refused before anything runs. All of it is pure,
but for reading the files themselves (`loading`)."""
