"""One suite per port: subclass it, give it a ``store`` fixture, and your plug-in is tested.

    class TestMyModels(ModelStoreContract):
        @pytest.fixture
        def store(self) -> Iterator[ModelStore]:
            ...

The suites need pytest, which only tests install.
"""
