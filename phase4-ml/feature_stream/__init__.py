"""The feature stream: live payments and labels from Kafka to Redis, within a second.

python -m feature_stream
"""
