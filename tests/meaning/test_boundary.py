"""What lets people or jobs in: recognised by where it lies, never by a name."""

import pytest

from sidecar.meaning.boundary import boundary


@pytest.mark.parametrize(
    ("image", "command", "expected"),
    [
        ("/usr/sbin/sshd", "", "entries"),
        ("/usr/sbin/cron", "", "job_runners"),
        ("/usr/local/bin/node", "/usr/local/bin/npm ci", "installers"),
        ("/usr/local/bin/node", "/usr/local/bin/npm run", ""),
        ("/usr/local/bin/node", "/tmp/npm ci", ""),
        ("/usr/local/bin/node", "npm ci", ""),
        ("/__e/node20/bin/node", "/__w/_actions/x/index.js", "ci_agents"),
        ("/tmp/cron", "", ""),
        ("/tmp/sshd", "", ""),
        ("/usr/bin/containerd-shim-runc-v2", "", "container_runtimes"),
        ("/tmp/runc", "", ""),
        ("/usr/local/bin/node", "/usr/local/bin/claude", "coding_agents"),
        ("/usr/sbin/nginx", "", ""),
        ("/usr/lib/icinga2/sbin/icinga2", "", "monitors"),
        ("/usr/local/bin/node", "/usr/lib/code-server", "remote_editors"),
        ("/usr/bin/java", "agent.jar", "executors"),
        ("/usr/bin/java", "org.apache.hadoop.yarn.server.nodemanager.NodeManager", "executors"),
        ("/usr/bin/python3.11", "/usr/bin/salt-minion", "management_agents"),
        ("/usr/bin/python3.11", "/tmp/salt-minion", ""),
        ("/opt/puppetlabs/puppet/bin/ruby", "", "management_agents"),
        ("cron", "", "job_runners"),
        ("node", "", ""),
        ("node", "/app/server.js", ""),
    ],
)
def test_a_boundary_is_recognised_by_its_place(image: str, command: str, expected: str) -> None:
    assert boundary(image, command) == expected
