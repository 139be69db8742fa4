"""The services' messages and stubs: `make proto` writes them from `protos/gateway/v1`."""
