"""Between a question and its answer: request dialects, event streams, proxies and certificates."""
