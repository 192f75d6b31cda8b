"""Names of techniques and tactics of MITRE ATT&CK, and where their pages are.

Those that Falco rules name in their tags; of any other technique the id is shown.
"""

import re
from functools import lru_cache

_URL = "https://attack.mitre.org/techniques/"

TECHNIQUES = {
    "T1003": "OS Credential Dumping",
    "T1003.008": "/etc/passwd and /etc/shadow",
    "T1005": "Data from Local System",
    "T1014": "Rootkit",
    "T1018": "Remote System Discovery",
    "T1020": "Automated Exfiltration",
    "T1021": "Remote Services",
    "T1021.004": "SSH",
    "T1027": "Obfuscated Files or Information",
    "T1036": "Masquerading",
    "T1036.005": "Match Legitimate Resource Name or Location",
    "T1037": "Boot or Logon Initialization Scripts",
    "T1041": "Exfiltration Over C2 Channel",
    "T1046": "Network Service Discovery",
    "T1048": "Exfiltration Over Alternative Protocol",
    "T1053": "Scheduled Task/Job",
    "T1053.003": "Cron",
    "T1055": "Process Injection",
    "T1055.008": "Ptrace System Calls",
    "T1055.009": "Proc Memory",
    "T1057": "Process Discovery",
    "T1059": "Command and Scripting Interpreter",
    "T1059.004": "Unix Shell",
    "T1059.006": "Python",
    "T1059.007": "JavaScript",
    "T1068": "Exploitation for Privilege Escalation",
    "T1070": "Indicator Removal",
    "T1070.002": "Clear Linux or Mac System Logs",
    "T1070.003": "Clear Command History",
    "T1070.004": "File Deletion",
    "T1071": "Application Layer Protocol",
    "T1071.001": "Web Protocols",
    "T1071.004": "DNS",
    "T1078": "Valid Accounts",
    "T1082": "System Information Discovery",
    "T1083": "File and Directory Discovery",
    "T1087": "Account Discovery",
    "T1090": "Proxy",
    "T1095": "Non-Application Layer Protocol",
    "T1098": "Account Manipulation",
    "T1098.004": "SSH Authorized Keys",
    "T1105": "Ingress Tool Transfer",
    "T1110": "Brute Force",
    "T1132": "Data Encoding",
    "T1133": "External Remote Services",
    "T1136": "Create Account",
    "T1140": "Deobfuscate/Decode Files or Information",
    "T1190": "Exploit Public-Facing Application",
    "T1195": "Supply Chain Compromise",
    "T1195.002": "Compromise Software Supply Chain",
    "T1203": "Exploitation for Client Execution",
    "T1204": "User Execution",
    "T1222": "File and Directory Permissions Modification",
    "T1486": "Data Encrypted for Impact",
    "T1489": "Service Stop",
    "T1496": "Resource Hijacking",
    "T1499": "Endpoint Denial of Service",
    "T1505": "Server Software Component",
    "T1505.003": "Web Shell",
    "T1526": "Cloud Service Discovery",
    "T1528": "Steal Application Access Token",
    "T1543": "Create or Modify System Process",
    "T1543.002": "Systemd Service",
    "T1546": "Event Triggered Execution",
    "T1547": "Boot or Logon Autostart Execution",
    "T1547.006": "Kernel Modules and Extensions",
    "T1548": "Abuse Elevation Control Mechanism",
    "T1548.001": "Setuid and Setgid",
    "T1550": "Use Alternate Authentication Material",
    "T1552": "Unsecured Credentials",
    "T1552.001": "Credentials In Files",
    "T1552.004": "Private Keys",
    "T1552.005": "Cloud Instance Metadata API",
    "T1552.007": "Container API",
    "T1555": "Credentials from Password Stores",
    "T1556": "Modify Authentication Process",
    "T1560": "Archive Collected Data",
    "T1562": "Impair Defenses",
    "T1562.001": "Disable or Modify Tools",
    "T1564": "Hide Artifacts",
    "T1564.001": "Hidden Files and Directories",
    "T1565": "Data Manipulation",
    "T1567": "Exfiltration Over Web Service",
    "T1570": "Lateral Tool Transfer",
    "T1571": "Non-Standard Port",
    "T1572": "Protocol Tunneling",
    "T1573": "Encrypted Channel",
    "T1574": "Hijack Execution Flow",
    "T1574.006": "Dynamic Linker Hijacking",
    "T1609": "Container Administration Command",
    "T1610": "Deploy Container",
    "T1611": "Escape to Host",
    "T1612": "Build Image on Host",
    "T1613": "Container and Resource Discovery",
    "T1620": "Reflective Code Loading",
}
"""Name of each technique by its id."""

_TACTICS = "mitre_"


def is_technique(tag: str) -> bool:
    """Whether a tag of a rule is the id of a technique: `T1059.004`."""
    return re.fullmatch(r"T[0-9]{4}(?:\.[0-9]{3})?", tag) is not None


@lru_cache(maxsize=512)
def described(tag: str) -> str:
    """Id and name of a technique or tactic, "" for a tag that is none."""
    return f"{tag} {name(tag)}" if name(tag) or is_technique(tag) else ""


def url(tag: str) -> str:
    """The page of a technique, "" for a tag that is none."""
    return f"{_URL}{tag.replace('.', '/')}/" if is_technique(tag) else ""


def name(tag: str) -> str:
    """The name of a technique or tactic, "" for a tag that is none or unknown: `Unix Shell`, `Credential access`."""
    if tag.startswith(_TACTICS):
        return tag.removeprefix(_TACTICS).replace("_", " ").capitalize()
    return TECHNIQUES.get(tag, "")
