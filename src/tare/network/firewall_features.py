"""Which of the kernel's parts that the firewall needs are missing: each is tried in a namespace of its own."""

from __future__ import annotations

from collections.abc import Mapping

from tare.kernel.namespaces import run_in_new_network_namespace
from tare.network.firewall import Nftables, NftError

_FILTER = "type filter hook forward priority 0; policy accept;"

FEATURES: Mapping[str, str] = {
    "nftables for both families (CONFIG_NF_TABLES_INET)": f"chain c {{ {_FILTER} accept; }}",
    "connection tracking (CONFIG_NFT_CT)": f"chain c {{ {_FILTER} ct state established accept; }}",
    "address translation (CONFIG_NFT_NAT)": (
        "chain c { type nat hook prerouting priority -100; meta l4proto tcp dnat ip to 192.0.2.1:80; }"
    ),
    "masquerading (CONFIG_NFT_MASQ)": "chain c { type nat hook postrouting priority 100; masquerade; }",
    "questions to the routing table (CONFIG_NFT_FIB_INET)": f"chain c {{ {_FILTER} fib daddr type local accept; }}",
    "sets of intervals (CONFIG_NF_TABLES)": (
        'set s { type ipv4_addr . ifname; flags interval; elements = { 192.0.2.0/24 . "lo" }; }'
    ),
    "maps of verdicts (CONFIG_NF_TABLES)": (
        f"map m {{ type ifname . ifname : verdict; }}\nchain c {{ {_FILTER} iifname . oifname vmap @m; }}"
    ),
}
"""What the ruleset is made of, in nft(8)'s notation, by what each part is called when the kernel is configured."""


def missing_features(features: Mapping[str, str] = FEATURES) -> list[str]:
    """The names of the features that this kernel refuses. Blocks; raises Unavailable without libnftables, OSError."""

    def work() -> list[str]:
        nft, refused = Nftables(), []
        for name, rules in features.items():
            try:
                nft.run(f"table inet probe {{\n{rules}\n}}\n")
            except NftError:
                refused.append(name)
            else:
                nft.run("delete table inet probe\n")
        return refused

    return run_in_new_network_namespace(work)
