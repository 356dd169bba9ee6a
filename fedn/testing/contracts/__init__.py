"""One suite per port: subclass it, give it the fixtures that it names, and your plug-in is tested.

    class TestMyModels(ModelStoreContract):
        @pytest.fixture
        def store(self) -> Iterator[ModelStore]:
            ...

The suites need pytest, which only tests install. ``docs/plugins.md`` has an example of each kind.
"""
