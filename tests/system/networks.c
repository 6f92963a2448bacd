/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests on a tap device (--tunnet): what a user gets wrong, and a distribution's
 * kernel that talks to the host and to a far namespace, routed and bridged. The rest
 * of the world is tests/system/world.c.
 *
 * On the soft engine only: the machine that has KVM where others have none has no tools
 * to make networks with.
 */
#include "systest.h"

#include <stdio.h>

#define CLOUD                                                                                      \
	"--initrd={assets}/guest/cloud/initrd.img", "192", "{assets}/guest/cloud/vmlinuz",         \
		"console=ttyS0", "quiet", "panic=-1"
#define HELLO  "64", "{assets}/guests/hello-linux64"
#define PROMPT EXPECT("guest:/# ")

/* The guest is 192.168.19.2; behind the host, which is .1 and 10.9.0.1, is 10.9.0.2. */
static bool routed(char *why, size_t size)
{
	return world_make(
		"ip addr add 10.9.0.1/24 dev cable; echo 1 >/proc/sys/net/ipv4/ip_forward",
		"ip addr add 10.9.0.2/24 dev cable; ip route add default via 10.9.0.1", why, size);
}

/* The host's end of the cable is a port of a bridge, and the far end is 192.168.19.3. */
static bool bridged(char *why, size_t size)
{
	return world_make("ip link add br0 type bridge; ip link set cable master br0; "
			  "ip link set br0 up",
			  "ip addr add 192.168.19.3/24 dev cable", why, size);
}

#define CONFIGURE "ip addr add 192.168.19.2/24 dev eth0; ip link set eth0 up"

/* Both ways at once; the shell echoes what was typed, and the answer is the server's. */
#define RELAY(far, port)                                                                           \
	PROMPT, TYPE("nc " far " " port " </dev/null | nc " far " " WORLD_TAKES_TEXT "\r")

/*
 * Frames that are on average longer than a cable takes (1514 bytes), out and in: somebody cut and
 * joined them who could do it better.
 */
#define SEGMENTS_SEEN                                                                              \
	PROMPT,                                                                                    \
		TYPE("cd /sys/class/net/eth0/statistics; for way in tx rx; do echo "               \
		     "$way-long $(($(cat ${way}_bytes) / $(cat ${way}_packets) > 1514)); done; "   \
		     "cd /\r"),                                                                    \
		EXPECT("\ntx-long 1\n"), EXPECT("rx-long 1\n")

static const struct test tests[] = {
	{
		.name = "tunnet-routed",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = OWN_NETWORK,
		.extend_network = routed,
		.args = {"--tunnet=192.168.19.1", CLOUD},
		.steps = STEPS(PROMPT, TYPE(CONFIGURE "; ip route add default via 192.168.19.1\r"),
			       PROMPT, TYPE("ping -c 2 192.168.19.1\r"),
			       EXPECT("2 packets received"), PROMPT, TYPE("ping -c 2 10.9.0.2\r"),
			       EXPECT("2 packets received"), RELAY("10.9.0.2", WORLD_SENDS_TEXT),
			       EXPECT("\n67108864 bytes, as they were sent\n"), SEGMENTS_SEEN,
			       RUN("ping -c 1 192.168.19.2"), PROMPT, TYPE("poweroff -f\r")),
	},
	{
		.name = "tunnet-routed-long",
		.only = "soft",
		.patience = FOR_TEN_BOOTS,
		.flags = OWN_NETWORK | ON_REQUEST,
		.extend_network = routed,
		.args = {"--tunnet=192.168.19.1", CLOUD},
		.steps = STEPS(PROMPT, TYPE(CONFIGURE "; ip route add default via 192.168.19.1\r"),
			       RELAY("10.9.0.2", WORLD_SENDS_LONG_TEXT),
			       EXPECT("\n1073741824 bytes, as they were sent\n"), SEGMENTS_SEEN,
			       PROMPT, TYPE("poweroff -f\r")),
	},
	{
		/* The bridge keeps its address while ports come and go. */
		.name = "tunnet-bridged",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = OWN_NETWORK,
		.extend_network = bridged,
		.args = {"--tunnet=bridge:br0:52:54:00:12:34:56", CLOUD},
		.steps =
			STEPS(PROMPT, TYPE(CONFIGURE "; ping -c 2 192.168.19.3\r"),
			      EXPECT("2 packets received"), RELAY("192.168.19.3", WORLD_SENDS_TEXT),
			      EXPECT("\n67108864 bytes, as they were sent\n"), SEGMENTS_SEEN,
			      PROMPT, RUN("bridge fdb show br br0 | grep -q 52:54:00:12:34:56"),
			      RUN("ip -o link show br0 | grep -q "
				  "\"$(ip -o link show cable | grep -o 'ether [0-9a-f:]*')\""),
			      TYPE("poweroff -f\r")),
	},
	{
		/* RUN-3: what was done to the tap meanwhile is still so. */
		.name = "tunnet-reboot",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = OWN_NETWORK,
		.args = {"--tunnet=192.168.19.1/25", CLOUD},
		.steps = STEPS(PROMPT, TYPE(CONFIGURE "; ping -c 2 192.168.19.1\r"),
			       EXPECT("2 packets received"),
			       RUN("ip addr show dev lguest0 | grep -q 192.168.19.1/25"),
			       RUN("ip addr add 172.16.0.1/24 dev lguest0"), PROMPT,
			       TYPE("reboot -f\r"), PROMPT,
			       TYPE("ip addr add 172.16.0.2/24 dev eth0; ip link set eth0 up; "
				    "ping -c 2 172.16.0.1\r"),
			       EXPECT("2 packets received"), PROMPT, TYPE("poweroff -f\r")),
	},
	{
		/* Each has its own MAC address, and the guest is told which is which. */
		.name = "tunnet-twice",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = OWN_NETWORK,
		.args = {"--tunnet=192.168.19.1", "--tunnet=192.168.20.1:52:54:00:12:34:56", CLOUD},
		.steps = STEPS(PROMPT,
			       TYPE(CONFIGURE "; ip addr add 192.168.20.2/24 dev eth1; "
					      "ip link set eth1 up\r"),
			       PROMPT, TYPE("ping -c 2 192.168.19.1\r"),
			       EXPECT("2 packets received"), PROMPT,
			       TYPE("ping -c 2 192.168.20.1\r"), EXPECT("2 packets received"),
			       PROMPT, TYPE("cat /sys/class/net/eth1/address\r"),
			       EXPECT("\n52:54:00:12:34:56\n"), PROMPT,
			       TYPE("sort -u /sys/class/net/eth?/address | wc -l\r"),
			       EXPECT("\n2\n"), PROMPT, TYPE("poweroff -f\r")),
	},
	{
		/* Somebody takes the tap away: the guest sees its link go down, and lives. */
		.name = "tunnet-deleted",
		.only = "soft",
		.patience = FOR_STOCK,
		.flags = OWN_NETWORK,
		.args = {"--tunnet=192.168.19.1", CLOUD},
		.steps = STEPS(PROMPT, TYPE(CONFIGURE "; ping -c 2 192.168.19.1\r"),
			       EXPECT("2 packets received"), PROMPT, RUN("ip link del lguest0"),
			       EXPECT_ERROR("net0: tap lguest0 is gone: the link is down"),
			       TYPE("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do :; done; "
				    "echo link $((6*7))\r"),
			       EXPECT("\nlink 42\n"), PROMPT, TYPE("reboot -f\r"), PROMPT,
			       TYPE("ip link set eth0 up; cat /sys/class/net/eth0/carrier\r"),
			       EXPECT("\n0\n"), PROMPT, TYPE("poweroff -f\r")),
		.error_lines = 1,
	},

	/* What a user gets wrong. */
	{
		.name = "tunnet-no-right",
		.only = "soft",
		.patience = FOR_USAGE,
		.flags = AS_NOBODY | OWN_NETWORK,
		.args = {"--tunnet=192.168.19.1", HELLO},
		.error_seen = {"--tunnet: cannot make a tap device: ",
			       "CAP_NET_ADMIN; --net=user takes neither"},
		.silent = true,
		.error_lines = 1,
		.status = 1,
	},
	{
		.name = "tunnet-no-bridge",
		.only = "soft",
		.patience = FOR_USAGE,
		.flags = OWN_NETWORK,
		.args = {"--tunnet=192.168.19.1", "--tunnet=bridge:br7", HELLO},
		.error_seen = {"--tunnet=bridge:br7: there is no br7"},
		.silent = true,
		.error_lines = 1,
		.status = 1,
	},
	{
		.name = "tunnet-not-a-bridge",
		.only = "soft",
		.patience = FOR_USAGE,
		.flags = OWN_NETWORK,
		.args = {"--tunnet=bridge:lo", HELLO},
		.error_seen = {"--tunnet=bridge:lo: lo is not a bridge"},
		.silent = true,
		.error_lines = 1,
		.status = 1,
	},
};

/* Words that name no network: test_options_net.c has more of them. */
static const struct {
	const char *name, *option, *seen;
} words[] = {
	{"tunnet-address", "--tunnet=192.168.300.1", "--tunnet: \"192.168.300.1\" is not an IPv4"},
	{"tunnet-netmask", "--tunnet=192.168.19.1/33", "--tunnet: \"33\" is not the length of"},
	{"tunnet-mac", "--tunnet=192.168.19.1:52:54:00", "--tunnet: \"52:54:00\" is not a MAC"},
	{"tunnet-mac-group", "--tunnet=bridge:br0:ff:ff:ff:ff:ff:ff", "is a group's"},
	{"net-port", "--net=user,hostfwd=tcp:0:80", "--net: hostfwd=tcp:0:80: not a protocol and"},
	{"sharenet-slash", "--sharenet=a/b", "--sharenet: \"a/b\" cannot be the name"},
};

void suite_add_networks(struct suite *suite)
{
	for (size_t i = 0; i < COUNT(tests); i++)
		suite_add(suite, &tests[i]);
	for (size_t i = 0; i < COUNT(words); i++)
		suite_add(suite, &(struct test){
					 .name = words[i].name,
					 .engines = NO_ENGINE,
					 .patience = FOR_USAGE,
					 .args = {words[i].option, HELLO},
					 .error_seen = {words[i].seen},
					 .silent = true,
					 .error_lines = 1,
					 .status = 1,
				 });
}
