"""The services that tests of the application use."""

from tests.app.conftest import client, jpeg, open_client, zoo

__all__ = ["client", "jpeg", "open_client", "zoo"]
