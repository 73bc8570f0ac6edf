"""Words to calls, results to words. No logic, no store, no thread in here; `render` is the only module that draws."""
