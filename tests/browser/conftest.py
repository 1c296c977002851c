"""The mark of what .ci/run looks at in a browser."""


def pytest_configure(config):
    config.addinivalue_line("markers", "short: one page at one width, what .ci/run looks at in a browser")
