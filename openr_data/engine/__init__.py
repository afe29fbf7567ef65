"""Run many coroutines over one policy: the seams, the journal, the ledger and the scheduler."""
