"""A private server through the client."""

from orka.redis.client import RedisHandle


async def test_without_a_url_the_private_server_is_opened(clean_redis: RedisHandle) -> None:
    assert clean_redis.private
    assert clean_redis.facts.search
    assert await clean_redis.client.execute_command("DBSIZE") == 0
