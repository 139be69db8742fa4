"""Settings and what was learnt become a policy; the data plane runs it; its records come back.

In: checked settings, the ledger's policy versions, review shares. Out: published policies, batches of records.
Never: touches a call, or talks to a network other than through the data plane.
"""
