"""The scorer: every live payment of transactions.raw to the API, its score to transactions.scored.

python -m serving.scorer
"""
