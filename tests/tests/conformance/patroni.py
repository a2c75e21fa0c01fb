"""What Patroni does with its store, over the JSON gateway and with nothing but Python.

    patroni.py HOST:PORT[,HOST:PORT...]

Two members race for a leader key under a lease, the winner renews and updates it as Patroni does,
dies, and the other takes over, while a watch follows. Every answer is checked as Patroni reads it,
and one line is printed for each step; the lines are the same for every store that is right.
"""

import base64
import http.client
import json
import sys
import threading

NODES = sys.argv[1].split(",")
PREFIX = "/service/demo/"


def b64(text):
    return base64.b64encode(text.encode()).decode()


def plain(text):
    return base64.b64decode(text).decode()


class Api:
    """One member's connection; each call goes to the next node, as after a failure."""

    def __init__(self):
        self.turn = 0
        self.term = 0

    def call(self, path, body, method="POST"):
        self.turn += 1
        host, port = NODES[self.turn % len(NODES)].split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        answer = json.loads(text)
        header = answer.get("header", {})
        # A term that goes back is a stale node for Patroni, which then goes elsewhere.
        term = int(header.get("raft_term", self.term))
        assert term >= self.term, (path, term, self.term)
        self.term = term
        return answer

    def get(self, path):
        return self.call(path, None, "GET")

    def key(self, name):
        kvs = self.call("/v3/kv/range", {"key": b64(PREFIX + name)}).get("kvs", [])
        return kvs[0] if kvs else None

    def put(self, name, value, lease=None):
        body = {"key": b64(PREFIX + name), "value": b64(value)}
        if lease:
            body["lease"] = lease
        return self.call("/v3/kv/put", body)

    def txn(self, compare, success, failure=None):
        body = {"compare": [compare], "success": [success]}
        if failure:
            body["failure"] = [failure]
        return self.call("/v3/kv/txn", body)

    def lease(self, seconds):
        return self.call("/v3/lease/grant", {"TTL": seconds})["ID"]

    def keep_alive(self, lease):
        """The time to live, or None if the lease is dead: then there must be none at all."""
        return self.call("/v3/lease/keepalive", {"ID": lease}).get("result", {}).get("TTL")


class Member(Api):
    """A Postgres that wants to lead."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.session = self.lease(30)

    def take_leader(self):
        key = b64(PREFIX + "leader")
        put = {"request_put": {"key": key, "value": b64(self.name), "lease": self.session}}
        free = {"target": "CREATE", "key": key, "create_revision": "0"}
        return self.txn(free, put).get("succeeded", False) is True

    def update_leader(self):
        key = b64(PREFIX + "leader")
        put = {"request_put": {"key": key, "value": b64(self.name), "lease": self.session}}
        mine = {"target": "VALUE", "key": key, "value": b64(self.name)}
        free = {"target": "CREATE", "key": key, "create_revision": "0"}
        nested = {"request_txn": {"compare": [free], "success": [put]}}
        answer = self.txn(mine, put, nested)
        if answer.get("succeeded", False):
            return "updated"
        inner = answer["responses"][0]["response_txn"]
        return "taken" if inner.get("succeeded", False) else "lost"

    def delete_leader(self):
        key = b64(PREFIX + "leader")
        mine = {"target": "VALUE", "key": key, "value": b64(self.name)}
        return self.txn(mine, {"request_delete_range": {"key": key}}).get("succeeded", False)


def watch(revision, until, lines):
    """Follows all keys from a revision until one is put."""
    host, port = NODES[0].split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    request = {"key": b64(PREFIX), "range_end": b64(PREFIX[:-1] + "0"), "start_revision": revision}
    connection.request("POST", "/v3/watch", json.dumps({"create_request": request}))
    answer = connection.getresponse()
    while True:
        result = json.loads(answer.readline())["result"]
        for event in result.get("events", []):
            kv = event["kv"]
            name = plain(kv["key"])[len(PREFIX):]
            deleted = event.get("type") == "DELETE"
            assert event.get("type", "PUT") in ("PUT", "DELETE"), event
            lines.append("deleted " + name if deleted else name + "=" + plain(kv.get("value", "")))
            if name == until:
                connection.close()
                return


def say(*words):
    print(*words, flush=True)


def main():
    api = Api()
    version = api.get("/version")
    for name in ("etcdserver", "etcdcluster"):
        numbers = tuple(int(number) for number in version[name].split("."))
        assert numbers >= (3, 4), version
    members = api.call("/v3/cluster/member/list", {})["members"]
    assert all(url.startswith("http") for member in members for url in member["clientURLs"])
    say("members have addresses")
    try:
        login = api.call("/v3/auth/authenticate", {"name": "root", "password": "x"})
    except json.JSONDecodeError:
        login = {}
    say("authentication:", login["code"], login["message"])

    start = int(api.put("initialize", "7000")["header"]["revision"]) + 1
    seen = []
    follower = threading.Thread(target=watch, args=(str(start), "end", seen))
    follower.start()

    one, two = Member("one"), Member("two")
    say("one takes:", one.take_leader(), "two takes:", two.take_leader())
    say("one:", one.update_leader(), "two:", two.update_leader())
    say("alive:", one.keep_alive(one.session), two.keep_alive(two.session))
    leader = one.key("leader")
    say("leader:", plain(leader["value"]), "under its lease:", leader["lease"] == one.session)
    one.put("status", json.dumps({"optime": 1}))
    one.put("members/one", "running", one.session)
    two.put("members/two", "running", two.session)
    say("two deletes what is not its own:", bool(two.delete_leader()))

    one.call("/v3/lease/revoke", {"ID": one.session})
    say("dead:", one.keep_alive(one.session), "leader:", two.key("leader"))
    say("members/one:", two.key("members/one"))
    refused = one.put("members/one", "running", one.session)
    say("refused:", refused["code"], refused["message"])
    say("two:", two.update_leader(), two.update_leader())
    say("leader:", plain(two.key("leader")["value"]))
    say("two gives it up:", bool(two.delete_leader()), "twice:", bool(two.delete_leader()))
    body = {"key": b64(PREFIX), "range_end": b64(PREFIX[:-1] + "0"), "serializable": False}
    for kv in api.call("/v3/kv/range", body)["kvs"]:
        say("left:", plain(kv["key"]), plain(kv.get("value", "")))
    api.put("end", "1")
    follower.join()
    # What the end of a lease deletes together has no order.
    say("seen:", *sorted(seen))


main()
