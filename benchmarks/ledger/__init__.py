"""What the ledger takes in, and how long people wait for it."""
