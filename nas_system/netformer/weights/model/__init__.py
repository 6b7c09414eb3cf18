"""The variational transformer that reads and writes networks: architecture, loss, training, metrics."""
