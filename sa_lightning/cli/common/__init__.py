"""What verbs share: the LightningCLI, what people type, what is said of a fit."""
