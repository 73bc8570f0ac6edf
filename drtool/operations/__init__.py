"""The verbs. No verb imports another: code that two of them share lives in `repository`."""
