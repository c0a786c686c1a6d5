"""Cases that hold for every Python client, written once: `client` says what they ask of a client, each suite answers it
with the real one."""
