"""The verbs, one module each; no verb imports another. Each result is the JSON document that its command prints."""
