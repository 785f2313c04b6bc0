"""URLs and addresses by which somebody would try to reach what is inside. ``{port}`` is where one listens."""

from __future__ import annotations

# Addresses as a name may resolve to them.
ADDRESSES = (
    # loopback, unspecified, "this network"
    "127.0.0.1", "127.0.0.53", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::",
    # private
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254",
    "fc00::1", "fd12:3456:789a::1", "fdff:ffff::1",
    # link-local, and the metadata services there and elsewhere
    "169.254.169.254", "169.254.170.2", "169.254.0.1", "fe80::1", "febf::1", "fd00:ec2::254",
    "168.63.129.16", "100.100.100.200",
    # shared (CGNAT), special, benchmarking, documentation
    "100.64.0.1", "100.127.255.254", "192.0.0.1", "192.0.0.8", "192.0.0.170", "192.88.99.1", "192.0.2.1",
    "198.18.0.1", "198.19.255.254", "198.51.100.7", "203.0.113.9", "2001:db8::1", "3fff::1", "100::1",
    "2001:2::1", "5f00::1",
    # multicast, reserved, broadcast
    "224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1", "240.0.0.1", "254.1.1.1", "255.255.255.255",
    "4000::1", "8000::1",
    # site-local, which few lists still know
    "fec0::1", "feff::1",
    # an IPv4 address inside an IPv6 one: mapped, compatible, translated, 6to4, Teredo, NAT64
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::ffff:0.0.0.0",
    "::127.0.0.1", "::10.0.0.1", "::169.254.169.254", "::8.8.8.8",
    "::ffff:0:127.0.0.1", "::ffff:0:10.0.0.1", "::ffff:0:8.8.8.8",
    "2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::1", "2002:808:808::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001::1",
    "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::192.168.0.1",
    "64:ff9b::100.64.0.1", "64:ff9b::0.0.0.0", "64:ff9b::168.63.129.16", "64:ff9b::224.0.0.1",
    "64:ff9b:1::10.0.0.1", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::1",
)  # fmt: skip

# Public ones, among them public IPv4 hosts as they look on a network that is IPv6 only.
PUBLIC = (
    "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "11.0.0.1",
    "128.0.0.1", "169.253.0.1", "192.167.1.1", "192.169.1.1", "198.17.0.1", "198.20.0.1", "223.255.255.254",
    "168.63.129.15", "168.63.129.17", "2606:4700:4700::1111", "2a00:1450:4001::1", "2003::1",
    "64:ff9b::8.8.8.8", "64:ff9b::93.184.216.34",
)  # fmt: skip

# One and the same inner host, spelled in the ways that inet_aton(3) and browsers read.
SPELLINGS = (
    # 127.0.0.1
    "2130706433", "0x7f000001", "0X7F000001", "017700000001", "0x7f.0.0.1", "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "0177.0000.0000.0001", "127.1", "127.0.1", "0x7f.1", "0177.1", "127.0x1", "127.65535", "127.0.0.1.",
    "2130706433.", "127.000.000.001", "127.0.0.01",
    # 0.0.0.0
    "0", "0x0", "00", "0.0", "000.000.000.000", "0.",
    # 169.254.169.254
    "2852039166", "0xa9fea9fe", "0xA9.0xFE.0xA9.0xFE", "025177524776", "0251.0376.0251.0376",
    "169.254.43518",
    "169.16689662", "0xa9.254.0251.254", "169.254.169.254.",
    # 10.0.0.1 and 192.168.0.1
    "10.1", "0xa.1", "012.1", "167772161", "192.168.1", "3232235521", "0xc0.0xa8.1",
    # percent-encoded, full width, in circles, with the stops of other scripts
    "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "127｡0｡0｡1",
    "１6９.254.169.254",
    "𝟙𝟚𝟟.0.0.1", "0ｘ7f.1",
    # IPv6
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::FFFF:7F00:0001]", "[::127.0.0.1]", "[::7f00:1]", "[::ffff:0:127.0.0.1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[fec0::1]", "[fe80::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]", "[::1%25lo]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]",
    # names for this machine
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "loc%61lhost", "ⓛocalhost",
    "localhost.localdomain.local",
    "metadata.google.internal", "printer.local",
)  # fmt: skip

# What is refused at submit, as a whole URL.
LITERALS = (
    *(f"http://{host}:{{port}}/hook" for host in SPELLINGS),
    *(f"http://{f'[{a}]' if ':' in a else a}:{{port}}/" for a in ADDRESSES),
    "https://127.0.0.1/", "HTTP://127.0.0.1/", "http://127.0.0.1", "http://127.0.0.1:80?a",
    "http://127.0.0.1#b",
    "http://receiver.example:22/", "http://receiver.example:25/", "http://receiver.example:0/",
    "http://receiver.example:6379/", "http://receiver.example:2375/", "http://receiver.example:1023/",
)  # fmt: skip

# What is no plain http(s) URL, or hides where it leads.
MALFORMED = (
    # other schemes, none, or half a URL
    "ftp://127.0.0.1:{port}/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/_x",
    "dict://127.0.0.1:{port}/",
    "redis://127.0.0.1:{port}/", "javascript:alert(1)", "data:text/plain,x", "ws://127.0.0.1:{port}/",
    "jar:http://127.0.0.1:{port}!/", "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "//127.0.0.1:{port}/", "127.0.0.1:{port}/", "/hook", "", "http:", "http://", "http:///hook",
    "http:127.0.0.1:{port}", "http:/127.0.0.1:{port}/", "http://:{port}/",
    # userinfo
    "http://receiver.example@127.0.0.1:{port}/", "http://a:b@127.0.0.1:{port}/",
    "http://@127.0.0.1:{port}/",
    "http://receiver.example:80@127.0.0.1:{port}/", "http://127.0.0.1:{port}@receiver.example/",
    "http://receiver.example#@127.0.0.1:{port}@x/\\", "http://a@b@127.0.0.1:{port}/",
    # backslashes, whitespace, control characters
    "http://receiver.example\\@127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}\\",
    "http://127.0.0.1:{port}\\.example/",
    "http://127.0.0.1 :{port}/", " http://127.0.0.1:{port}/", "http://127.0.0.1:{port}/ ",
    "http://127.0.\t0.1:{port}/",
    "http://127.0.0.1:{port}/\r\nHost: x", "http://127.0.0.1\n:{port}/", "http://127.0.0.1\x00:{port}/",
    "http://127.0.0.1:{port}/\x7f",
    # odd ports
    "http://127.0.0.1:99999/", "http://127.0.0.1:-1/", "http://127.0.0.1:port/",
    "http://127.0.0.1:{port}:80/",
    # brackets, empty labels, encoded delimiters
    "http://[::1/", "http://::1]:{port}/", "http://[::1]x:{port}/", "http://[nothing]:{port}/",
    "http://[127.0.0.1]:{port}/",
    "http://.../", "http://a..b/", "http://.127.0.0.1:{port}/", "http://127.0.0.1..:{port}x/",
    "http://127.0.0.1%2f:{port}/", "http://receiver.example%2f@127.0.0.1:{port}/",
    "http://127.0.0.1%20:{port}/",
    "http://127.0.0.1%23:{port}/", "http://" + "a" * 64 + ".example/", "http://127.0.0.1℀:{port}/",
)  # fmt: skip

URLS = tuple(f"http://{host}:{{port}}/hook" for host in SPELLINGS)
