"""The scorer: sends every live payment of transactions.raw to the API, and its score to transactions.scored.

python -m scorer
"""
