"""What the Python tests of this folder expect, said once: a state within a bound, a refusal with its code and words, a server that ends well.

Left out: servers (server_process.py), hosts (auth_host.py, tls_keys.py), guests (tests/e2e/harness.py).
"""
import time

from server_process import RpcFailure

# For what takes milliseconds, on a busy machine in a sanitizer build.
WAIT_S = 60


def hostnqn_of(host_id):
    return f"nqn.2014-08.org.nvmexpress:uuid:{host_id}"


def wait_for(condition, what, timeout_s=WAIT_S):
    """`what` may be a function that says more once it is too late."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain for {what() if callable(what) else what}")
        time.sleep(0.02)


def refused(test, code, words, call, /, *arguments, **keywords):
    """The call is answered with this error, whose message has all the words."""
    with test.assertRaises(RpcFailure) as caught:
        call(*arguments, **keywords)
    test.assertEqual(caught.exception.error["code"], code, str(caught.exception))
    for word in words:
        test.assertIn(word, caught.exception.error["message"])


def end_well(server):
    """Ends the server, whose status must be 0, and returns its log."""
    status = server.stop()
    log = server.log_text()
    server.clean()
    assert status == 0, f"catnapd ended with {status}:\n{log}"
    assert "AddressSanitizer" not in log, log
    return log
