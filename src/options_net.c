/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The values of --tunnet=, --net= and --sharenet=: see options.h.
 *
 * Addresses, MACs, ports and names are read here and nowhere else; what arrives in
 * a struct netif_options is well formed. Whether a bridge exists or a port is free
 * is for the back ends to find out.
 *
 * Tour 1.110: What the user said of a network
 */
#include "options.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BITS_DEFAULT 24
#define BITS_MAX     32
#define PORT_MAX     65535

#define TUNNET_FORM "--tunnet=ADDRESS[/BITS][:MAC], or bridge:NAME[:MAC]"
#define USER_FORM   "--net=user[,hostfwd=tcp:PORT:PORT]..., tcp or udp, the host's port first"
#define SHARE_FORM  "--sharenet=NAME[:MAC]"

/* All of the text, in decimal. False: it is something else, or above the limit. */
static bool parse_number(const char *text, unsigned limit, unsigned *value)
{
	*value = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return false;
		*value = *value * 10 + (*text - '0');
		if (*value > limit)
			return false;
	}
	return true;
}

/* Cut the text at the first such character: what is behind it, or NULL where there is none. */
static char *cut(char *text, char at)
{
	char *found = strchr(text, at);

	if (found)
		*found++ = '\0';
	return found;
}

static bool read_mac(u8 mac[ETH_ALEN], const char *text)
{
	for (unsigned i = 0; i < ETH_ALEN; i++) {
		const char *digits = text + 3 * i;

		if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]) ||
		    digits[2] != (i < ETH_ALEN - 1 ? ':' : '\0'))
			return false;
		mac[i] = strtoul(digits, NULL, 16);
	}
	return true;
}

static int parse_mac(struct netif_options *netif, const char *name, const char *text,
		     struct problem *why)
{
	static const u8 zero[ETH_ALEN];

	if (!text)
		return 0;
	if (!read_mac(netif->mac, text))
		return problem(why, EINVAL,
			       "--%s: \"%s\" is not a MAC address (six pairs of hexadecimal digits "
			       "with colons between, like 52:54:00:12:34:56)",
			       name, text);
	if (netif->mac[0] & 1)
		return problem(why, EINVAL,
			       "--%s: the MAC address %s is a group's (its first byte is odd); a "
			       "guest needs one of its own",
			       name, text);
	if (!memcmp(netif->mac, zero, ETH_ALEN))
		return problem(why, EINVAL, "--%s: the MAC address %s is nobody's", name, text);
	netif->has_mac = true;
	return 0;
}

/* A whole address that an interface can have: not 0.x.x.x, and not a group's. */
static bool parse_address(const char *text, u32 *address)
{
	struct in_addr parsed;

	if (inet_pton(AF_INET, text, &parsed) != 1)
		return false;
	*address = ntohl(parsed.s_addr);
	return *address >> 24 != 0 && !IN_MULTICAST(*address) && !IN_BADCLASS(*address);
}

static int parse_tap(struct netif_options *netif, char *text, struct problem *why)
{
	const char *mac = cut(text, ':');
	const char *bits = cut(text, '/');

	netif->kind = NETIF_TAP;
	netif->bits = BITS_DEFAULT;
	if (!parse_address(text, &netif->address))
		return problem(why, EINVAL,
			       "--tunnet: \"%s\" is not an IPv4 address that the host can have "
			       "(" TUNNET_FORM ")",
			       text);
	if (bits && (!parse_number(bits, BITS_MAX, &netif->bits) || !netif->bits))
		return problem(why, EINVAL,
			       "--tunnet: \"%s\" is not the length of a netmask, which is 1 to %u "
			       "(" TUNNET_FORM ")",
			       bits, BITS_MAX);
	return parse_mac(netif, "tunnet", mac, why);
}

/* What the kernel takes for the name of an interface. */
static bool is_interface_name(const char *name)
{
	const size_t length = strlen(name);

	if (!length || length >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (; *name; name++)
		if (*name == '/' || !isgraph((unsigned char)*name))
			return false;
	return true;
}

static int parse_bridge(struct netif_options *netif, char *text, struct problem *why)
{
	const char *mac = cut(text, ':');

	netif->kind = NETIF_BRIDGED;
	netif->name = text;
	if (!is_interface_name(text))
		return problem(why, EINVAL,
			       "--tunnet=bridge:%s: \"%s\" cannot be the name of a bridge "
			       "(" TUNNET_FORM ")",
			       text, text);
	return parse_mac(netif, "tunnet", mac, why);
}

static int parse_tunnet(struct netif_options *netif, char *text, struct problem *why)
{
	static const char bridge[] = "bridge:";

	if (!strncmp(text, bridge, strlen(bridge)))
		return parse_bridge(netif, text + strlen(bridge), why);
	return parse_tap(netif, text, why);
}

/* tcp:PORT:PORT */
static bool read_forward(struct netif_forward *forward, char *text)
{
	char *host_port = cut(text, ':');
	char *guest_port = host_port ? cut(host_port, ':') : NULL;
	unsigned host, guest;

	forward->udp = !strcmp(text, "udp");
	if (!forward->udp && strcmp(text, "tcp") != 0)
		return false;
	if (!guest_port || !parse_number(host_port, PORT_MAX, &host) || !host ||
	    !parse_number(guest_port, PORT_MAX, &guest) || !guest)
		return false;
	forward->host_port = host;
	forward->guest_port = guest;
	return true;
}

static int parse_forward(struct netif_options *netif, char *text, struct problem *why)
{
	struct netif_forward *forward = &netif->forwards[netif->forward_count];
	char said[64];

	snprintf(said, sizeof(said), "%s", text);
	if (netif->forward_count == NETIF_FORWARDS)
		return problem(why, E2BIG, "--net: more than the %u hostfwd= that it can have",
			       NETIF_FORWARDS);
	if (!read_forward(forward, text))
		return problem(why, EINVAL,
			       "--net: hostfwd=%s: not a protocol and two ports from 1 to %u "
			       "(" USER_FORM ")",
			       said, PORT_MAX);
	for (const struct netif_forward *other = netif->forwards; other < forward; other++)
		if (other->udp == forward->udp && other->host_port == forward->host_port)
			return problem(why, EINVAL,
				       "--net: hostfwd=%s: the host's %s port %u is forwarded "
				       "already",
				       said, forward->udp ? "udp" : "tcp", forward->host_port);
	netif->forward_count++;
	return 0;
}

static int parse_user(struct netif_options *netif, char *text, struct problem *why)
{
	static const char forward[] = "hostfwd=";
	char *rest = cut(text, ',');

	netif->kind = NETIF_USER;
	if (strcmp(text, "user") != 0)
		return problem(why, EINVAL, "--net: there is no network \"%s\" (" USER_FORM ")",
			       text);
	while (rest) {
		char *word = rest;
		int err;

		rest = cut(word, ',');
		if (strncmp(word, forward, strlen(forward)) != 0)
			return problem(why, EINVAL,
				       "--net: \"%s\" is not something to be said of a network "
				       "(" USER_FORM ")",
				       word);
		err = parse_forward(netif, word + strlen(forward), why);
		if (err)
			return err;
	}
	return 0;
}

/* It becomes part of a file's name: no slash, and nothing that hides or climbs. */
static bool is_share_name(const char *name)
{
	const size_t length = strlen(name);

	if (!length || length > NETIF_SHARE_MAX || *name == '.')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr("-_.", *name))
			return false;
	return true;
}

static int parse_share(struct netif_options *netif, char *text, struct problem *why)
{
	const char *mac = cut(text, ':');

	netif->kind = NETIF_SHARED;
	netif->name = text;
	if (!is_share_name(text))
		return problem(why, EINVAL,
			       "--sharenet: \"%s\" cannot be the name of a network: up to %u "
			       "letters, digits, - _ and . but no . first (" SHARE_FORM ")",
			       text, NETIF_SHARE_MAX);
	return parse_mac(netif, "sharenet", mac, why);
}

int options_parse_net(struct netif_options *netif, const char *name, char *text,
		      struct problem *why)
{
	*netif = (struct netif_options){0};
	if (!strcmp(name, "tunnet"))
		return parse_tunnet(netif, text, why);
	if (!strcmp(name, "net"))
		return parse_user(netif, text, why);
	return parse_share(netif, text, why);
}
