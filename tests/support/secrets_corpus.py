"""Eighty command lines of twenty kinds, each with the secret that must not be seen again. None of them is real."""

import random
import string

_numbers = random.Random(20261124)


def _made(letters: str, count: int) -> str:
    return "".join(_numbers.choice(letters) for _ in range(count))


def _word(count: int) -> str:
    return _made(string.ascii_letters + string.digits, count)


def _hex(count: int) -> str:
    return _made("0123456789abcdef", count)


def _password() -> str:
    return _made(string.ascii_letters, 5) + _made("!.+*_%^~", 1) + _word(6) + _made(string.digits, 2)


_KINDS: dict[str, tuple[str, ...]] = {
    "AWS access key id": (
        *("aws configure set aws_access_key_id {key}", "env AWS_ACCESS_KEY_ID={key} aws s3 ls", "boto --id {key} ls"),
        "curl https://b.s3.amazonaws.com/x?X-Amz-Credential={key}%2F20261124%2Feu-central-1%2Fs3",
    ),
    "AWS secret key": (
        *("aws configure set aws_secret_access_key {secret40}", "env AWS_SECRET_ACCESS_KEY={secret40} aws s3 ls"),
        *("s3cmd --secret_key={secret40} ls", 'sh -c export AWS_SESSION_TOKEN="{secret40}{secret40}"'),
    ),
    "GitHub token": (
        *("git clone https://{ghp}@github.com/x/y", "git clone https://x-access-token:{ghp}@github.com/x/y.git"),
        *("curl -H Authorization: token {ghp} https://api.github.com/user", "gh auth login --with-token={ghp}"),
    ),
    "GitLab token": (
        *("curl --header PRIVATE-TOKEN: {glpat} https://gitlab/api/v4/user", "glab auth login -t {glpat}"),
        *("git clone https://oauth2:{glpat}@gitlab/x.git", "gitlab-runner register --registration-token {word20}"),
    ),
    "Slack token": (
        *("curl -d token={xoxb} https://slack.com/api/auth.test", "env SLACK_BOT_TOKEN={xoxb} ./bot"),
        *("curl -d {{}} https://hooks.slack.com/services/T00000000/B00000000/{word24}", "notify --slack {xoxb} hi"),
    ),
    "Google key": (
        *("curl https://maps.googleapis.com/maps/api/geocode/json?key={aiza}", "env GOOGLE_API_KEY={aiza} ./geo"),
        *("curl -H Authorization: Bearer {ya29} https://storage.googleapis.com/", "gcloud --access-token {ya29} x"),
    ),
    "JSON web token": (
        *("curl -H Authorization: Bearer {jwt} https://api/", "kubectl --token={jwt} get pods"),
        *("wget --header=Cookie: session={jwt} http://x/", "python3 -c import jwt; jwt.decode('{jwt}')"),
    ),
    "bearer token": (
        *(
            "curl -H Authorization: Bearer {word40} https://api/",
            'curl -H "authorization: bearer {word40}" https://api/',
        ),
        *("http GET api/ Authorization:'Bearer {word40}'", "wget --header Authorization: Bearer {word40} http://x/"),
    ),
    "basic credentials": (
        *("curl -H Authorization: Basic {word20}= https://api/", "curl -u bob:{password} https://api/"),
        *("curl --user bob:{password} https://api/", "curl -ubob:{password} --proxy-user eve:{password} https://api/"),
    ),
    "password option": (
        *("tool --password {password} run", "tool --password={password} run", "java -jar x.jar -password {password}"),
        "rclone config create r sftp --sftp-pass {password}",
    ),
    "database password": (
        *("mysql -u root -p{password} shop", "mysqldump --user=root --password={password} shop"),
        *("mariadb -uroot -p{password}", "mongosh -u root -p {password} shop"),
    ),
    "password variable": (
        *("env PGPASSWORD={password} psql -h db", "sh -c MYSQL_PWD={password} mysql -h db"),
        *("docker run -e POSTGRES_PASSWORD={password} postgres", "sh -c export DB_PASS='{password}'; ./run"),
    ),
    "password in a URL": (
        *("psql postgres://shop:{password}@db:5432/shop", "redis-cli -u redis://:{password}@cache:6379"),
        *("celery -b amqp://guest:{password}@mq//", "curl ftp://bob:{password}@files/x"),
    ),
    "login option": (
        *("sshpass -p {password} ssh root@10.0.0.5", "redis-cli -h cache -a {password} ping"),
        *("docker login -u bob -p {password} registry.example", "ldapsearch -D cn=admin -w {password} -b dc=x"),
    ),
    "piped password": (
        *("sh -c echo {password} | sudo -S id", "sh -c echo root:{password} | chpasswd"),
        *("sh -c echo '{password}' | sudo -S -u root sh", 'bash -c echo "app:{password}" | sudo chpasswd'),
    ),
    "private key": (
        *("sh -c echo '-----BEGIN RSA PRIVATE KEY-----\n{b64}\n-----END RSA PRIVATE KEY-----' > k", "add {pem}"),
        *("sh -c cat > k <<E\n-----BEGIN OPENSSH PRIVATE KEY-----\n{b64}", "age -i AGE-SECRET-KEY-1{upper58} -d x"),
    ),
    "forge and cloud tokens": (
        *("npm publish --//npm.example/:_authToken={npm}", "twine upload -u __token__ -p {pypi}"),
        *("doctl auth init -t dop_v1_{hex64}", "databricks configure --token dapi{hex32}"),
    ),
    "vendor tokens": (
        *("curl https://api.stripe.com/v1/charges -u sk_live_{word24}:", "sendgrid --key SG.{word22}.{word43}"),
        *("vault login hvs.{word40}", "curl https://api.telegram.org/bot123456789:AA{word33}/getMe"),
    ),
    "keys in JSON and forms": (
        *(
            'curl -d {{"user":"bob","password":"{password}"}} http://x/',
            "curl -d user=bob&passwd={word20}&x=1 http://x/",
        ),
        *("curl http://x/?access_token={word40}&page=2", "curl -H X-Api-Key: {word40} http://x/"),
    ),
    "cloud storage and cluster": (
        *(
            "az storage --connection-string AccountName=x;AccountKey={word40}==;EndpointSuffix=y",
            "azcopy cp x?sig={word40}",
        ),
        *("kubeadm join 10.0.0.1:6443 --token abcdef.{hex16}", "openssl enc -aes-256-cbc -pass pass:{password} -in x"),
    ),
}


def _filled(template: str) -> tuple[str, tuple[str, ...]]:
    b64 = "\n".join(_word(60) for _ in range(3))
    values = {
        **{f"word{n}": _word(n) for n in (20, 22, 24, 33, 40, 43)},
        **{f"hex{n}": _hex(n) for n in (16, 32, 64)},
        "password": _password(),
        "secret40": _made(string.ascii_letters + string.digits + "+", 40),
        "key": "AKIA" + _made(string.ascii_uppercase + "234567", 16),
        "ghp": "ghp_" + _word(36),
        "glpat": "glpat-" + _word(20),
        "xoxb": f"xoxb-{_made(string.digits, 12)}-{_made(string.digits, 12)}-{_word(24)}",
        "aiza": "AIza" + _word(35),
        "ya29": "ya29." + _word(60),
        "jwt": f"eyJ{_word(33)}.eyJ{_word(60)}.{_word(43)}",
        "npm": "npm_" + _word(36),
        "pypi": "pypi-" + _word(80),
        "upper58": _made(string.ascii_uppercase + string.digits, 58),
        "b64": b64,
        "pem": f"-----BEGIN EC PRIVATE KEY-----\n{b64}\n-----END EC PRIVATE KEY-----",
    }
    used = tuple(value for name, value in values.items() if "{" + name + "}" in template)
    lines = (line for value in used for line in value.split("\n") if not line.startswith("-----"))
    return template.format(**values), tuple(lines)


SECRETS = [(kind, *_filled(template)) for kind, templates in _KINDS.items() for template in templates]
"""Kind, command line, and what of it must be gone."""
