"""The verbs. No verb imports another; what two of them share lies in `repository`."""
