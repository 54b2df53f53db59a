"""Branches on other processes: tasks over Redis streams and consumer groups, and the messages that answer them."""
