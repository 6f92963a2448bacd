/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Networks on the command line: what --tunnet=, --net= and --sharenet= take, and
 * that what they do not take is said to be so, by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static char text[512]; /* the parser's to cut up */
static struct netif_options netif;
static struct problem why;

static int parse(const char *name, const char *value)
{
	snprintf(text, sizeof(text), "%s", value);
	why.text[0] = '\0';
	return options_parse_net(&netif, name, text, &why);
}

static void assert_mac(const char *mac)
{
	char is[32];

	snprintf(is, sizeof(is), "%02x:%02x:%02x:%02x:%02x:%02x", netif.mac[0], netif.mac[1],
		 netif.mac[2], netif.mac[3], netif.mac[4], netif.mac[5]);
	assert_true(netif.has_mac);
	assert_string_equal(is, mac);
}

static void test_tap(void **state)
{
	(void)state;
	assert_int_equal(parse("tunnet", "192.168.19.1"), 0);
	assert_int_equal(netif.kind, NETIF_TAP);
	assert_int_equal(netif.address, 0xc0a81301);
	assert_int_equal(netif.bits, 24);
	assert_false(netif.has_mac);

	assert_int_equal(parse("tunnet", "10.0.0.1/8"), 0);
	assert_int_equal(netif.bits, 8);
	assert_int_equal(parse("tunnet", "10.0.0.1/32:52:54:00:aB:Cd:01"), 0);
	assert_int_equal(netif.bits, 32);
	assert_mac("52:54:00:ab:cd:01");
	assert_int_equal(parse("tunnet", "10.0.0.1:02:00:00:00:00:01"), 0);
	assert_int_equal(netif.bits, 24);
	assert_mac("02:00:00:00:00:01");
}

static void test_bridge(void **state)
{
	(void)state;
	assert_int_equal(parse("tunnet", "bridge:br0"), 0);
	assert_int_equal(netif.kind, NETIF_BRIDGED);
	assert_string_equal(netif.name, "br0");
	assert_false(netif.has_mac);
	assert_int_equal(parse("tunnet", "bridge:br-0.5:52:54:00:12:34:56"), 0);
	assert_string_equal(netif.name, "br-0.5");
	assert_mac("52:54:00:12:34:56");
	assert_int_equal(parse("tunnet", "bridge:fifteen-letters"), 0);
}

static void test_user(void **state)
{
	(void)state;
	assert_int_equal(parse("net", "user"), 0);
	assert_int_equal(netif.kind, NETIF_USER);
	assert_int_equal(netif.forward_count, 0);
	assert_int_equal(parse("net", "user,hostfwd=tcp:2222:22,hostfwd=udp:2222:53,"
				      "hostfwd=tcp:65535:1"),
			 0);
	assert_int_equal(netif.forward_count, 3);
	assert_false(netif.forwards[0].udp);
	assert_int_equal(netif.forwards[0].host_port, 2222);
	assert_int_equal(netif.forwards[0].guest_port, 22);
	assert_true(netif.forwards[1].udp);
	assert_int_equal(netif.forwards[1].guest_port, 53);
	assert_int_equal(netif.forwards[2].host_port, 65535);
}

static void test_share(void **state)
{
	(void)state;
	assert_int_equal(parse("sharenet", "lab"), 0);
	assert_int_equal(netif.kind, NETIF_SHARED);
	assert_string_equal(netif.name, "lab");
	assert_int_equal(parse("sharenet", "a-B_c.9:52:54:00:12:34:56"), 0);
	assert_string_equal(netif.name, "a-B_c.9");
	assert_mac("52:54:00:12:34:56");
	assert_int_equal(parse("sharenet", "abcdefghijklmnopqrstuvwxyz012345"), 0);
}

/* Each names its option, says what is wrong with it, and is one line. */
static void test_refused(void **state)
{
	static const struct {
		const char *name, *value, *said;
	} tests[] = {
		{"tunnet", "", "\"\" is not an IPv4 address"},
		{"tunnet", "192.168.300.1", "\"192.168.300.1\" is not an IPv4 address"},
		{"tunnet", "192.168.1", "\"192.168.1\" is not an IPv4 address"},
		{"tunnet", "192.168.1.1.1", "not an IPv4 address"},
		{"tunnet", " 192.168.1.1", "not an IPv4 address"},
		{"tunnet", "host.example", "not an IPv4 address"},
		{"tunnet", "0.0.0.0", "not an IPv4 address"},
		{"tunnet", "224.0.0.1", "not an IPv4 address"},
		{"tunnet", "255.255.255.255", "not an IPv4 address"},
		{"tunnet", "fe80::1", "\"fe80\" is not an IPv4 address"},
		{"tunnet", "10.0.0.1/", "\"\" is not the length of a netmask"},
		{"tunnet", "10.0.0.1/0", "\"0\" is not the length of a netmask"},
		{"tunnet", "10.0.0.1/33", "\"33\" is not the length of a netmask"},
		{"tunnet", "10.0.0.1/-1", "not the length of a netmask"},
		{"tunnet", "10.0.0.1/4294967320", "not the length of a netmask"},
		{"tunnet", "10.0.0.1/255.0.0.0", "not the length of a netmask"},
		{"tunnet", "10.0.0.1:", "\"\" is not a MAC address"},
		{"tunnet", "10.0.0.1:52:54:00:12:34", "\"52:54:00:12:34\" is not a MAC address"},
		{"tunnet", "10.0.0.1:52:54:00:12:34:56:78", "not a MAC address"},
		{"tunnet", "10.0.0.1:52:54:00:12:34:5g", "not a MAC address"},
		{"tunnet", "10.0.0.1:52-54-00-12-34-56", "not a MAC address"},
		{"tunnet", "10.0.0.1:5:54:00:12:34:56", "not a MAC address"},
		{"tunnet", "10.0.0.1:52:54:00:12:34:", "not a MAC address"},
		{"tunnet", "10.0.0.1:53:54:00:12:34:56",
		 "MAC address 53:54:00:12:34:56 is a group"},
		{"tunnet", "10.0.0.1:ff:ff:ff:ff:ff:ff", "is a group's"},
		{"tunnet", "10.0.0.1:00:00:00:00:00:00", "is nobody's"},
		{"tunnet", "bridge:", "\"\" cannot be the name of a bridge"},
		{"tunnet", "bridge:a/b", "\"a/b\" cannot be the name of a bridge"},
		{"tunnet", "bridge:..", "cannot be the name of a bridge"},
		{"tunnet", "bridge:a b", "cannot be the name of a bridge"},
		{"tunnet", "bridge:sixteen--letters", "cannot be the name of a bridge"},
		{"tunnet", "bridge:br0:1", "\"1\" is not a MAC address"},
		{"net", "", "there is no network \"\""},
		{"net", "tap", "there is no network \"tap\""},
		{"net", "users", "there is no network \"users\""},
		{"net", "user,", "\"\" is not something to be said"},
		{"net", "user,mtu=9000", "\"mtu=9000\" is not something to be said"},
		{"net", "user,hostfwd=", "hostfwd=: not a protocol and two ports"},
		{"net", "user,hostfwd=tcp", "hostfwd=tcp: not a protocol"},
		{"net", "user,hostfwd=tcp:80", "hostfwd=tcp:80: not a protocol"},
		{"net", "user,hostfwd=tcp:80:80:80", "not a protocol and two ports"},
		{"net", "user,hostfwd=sctp:80:80", "hostfwd=sctp:80:80: not a protocol"},
		{"net", "user,hostfwd=tcp:0:80", "not a protocol and two ports from 1 to 65535"},
		{"net", "user,hostfwd=tcp:80:0", "not a protocol and two ports"},
		{"net", "user,hostfwd=tcp:65536:80", "not a protocol and two ports"},
		{"net", "user,hostfwd=tcp:80:65536", "not a protocol and two ports"},
		{"net", "user,hostfwd=tcp:+80:80", "not a protocol and two ports"},
		{"net", "user,hostfwd=tcp::80", "not a protocol and two ports"},
		{"net", "user,hostfwd=tcp:80:1,hostfwd=tcp:80:2",
		 "tcp port 80 is forwarded already"},
		{"sharenet", "", "\"\" cannot be the name of a network"},
		{"sharenet", "a/b", "\"a/b\" cannot be the name of a network"},
		{"sharenet", "..", "\"..\" cannot be the name of a network"},
		{"sharenet", ".hidden", "cannot be the name of a network"},
		{"sharenet", "a b", "cannot be the name of a network"},
		{"sharenet", "abcdefghijklmnopqrstuvwxyz0123456",
		 "cannot be the name of a network"},
		{"sharenet", "lab:1", "\"1\" is not a MAC address"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++) {
		char option[16];

		print_message("--%s=%s\n", tests[i].name, tests[i].value);
		snprintf(option, sizeof(option), "--%s", tests[i].name);
		assert_true(parse(tests[i].name, tests[i].value) < 0);
		assert_true(!strncmp(why.text, option, strlen(option)));
		assert_non_null(strstr(why.text, tests[i].said));
		assert_null(strchr(why.text, '\n'));
	}
}

static void test_too_many_forwards(void **state)
{
	char value[512];
	int length = snprintf(value, sizeof(value), "user");

	(void)state;
	for (unsigned i = 0; i < NETIF_FORWARDS; i++)
		length += snprintf(value + length, sizeof(value) - length, ",hostfwd=tcp:%u:1",
				   1000 + i);
	assert_int_equal(parse("net", value), 0);
	assert_int_equal(netif.forward_count, NETIF_FORWARDS);
	strcat(value, ",hostfwd=tcp:1:1");
	assert_int_equal(parse("net", value), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tap),	cmocka_unit_test(test_bridge),
		cmocka_unit_test(test_user),	cmocka_unit_test(test_share),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_too_many_forwards),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
