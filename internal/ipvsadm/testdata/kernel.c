/* Makes a program believe that the kernel has IPVS. Its netlink sockets lead to the abstract unix socket
 * that IPVS_SOCKET names, where a test answers; /proc/net/ip_vs_conn is the file that IPVS_CONNECTIONS
 * names; names of hosts and ports come from tables below and not from the machine.
 * Built as a library and preloaded. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define DESCRIPTORS 1024

static char is_ours[DESCRIPTORS];

static int ours(int fd) { return fd >= 0 && fd < DESCRIPTORS && is_ours[fd]; }

int socket(int domain, int type, int protocol)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const char *name = getenv("IPVS_SOCKET");
	int fd;

	if (domain != AF_NETLINK || !name || strlen(name) >= sizeof(to.sun_path) - 1)
		return REAL(socket)(domain, type, protocol);
	fd = REAL(socket)(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || fd >= DESCRIPTORS)
		return -1;
	memcpy(to.sun_path + 1, name, strlen(name));
	if (connect(fd, (struct sockaddr *)&to, offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name))) {
		close(fd);
		return -1;
	}
	is_ours[fd] = 1;
	return fd;
}

int close(int fd)
{
	if (fd >= 0 && fd < DESCRIPTORS)
		is_ours[fd] = 0;
	return REAL(close)(fd);
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	return ours(fd) ? 0 : REAL(bind)(fd, addr, len);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return ours(fd) ? 0 : REAL(setsockopt)(fd, level, name, value, len);
}

int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_nl own = { .nl_family = AF_NETLINK, .nl_pid = getpid() };

	if (!ours(fd))
		return REAL(getsockname)(fd, addr, len);
	memcpy(addr, &own, *len < sizeof(own) ? *len : sizeof(own));
	*len = sizeof(own);
	return 0;
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct msghdr bare = *msg;

	if (ours(fd)) {
		bare.msg_name = NULL;
		bare.msg_namelen = 0;
	}
	return REAL(sendmsg)(fd, &bare, flags | MSG_NOSIGNAL);
}

ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	void *name = msg->msg_name;
	ssize_t n = REAL(recvmsg)(fd, msg, flags);

	if (n >= 0 && ours(fd) && name) {
		memcpy(name, &kernel, sizeof(kernel));
		msg->msg_name = name;
		msg->msg_namelen = sizeof(kernel);
	}
	return n;
}

FILE *fopen(const char *path, const char *mode)
{
	const char *other = getenv("IPVS_CONNECTIONS");

	if (other && !strcmp(path, "/proc/net/ip_vs_conn"))
		path = other;
	return REAL(fopen)(path, mode);
}

/* Names. The test has the same tables. */

static struct { const char *name, *addr; } hosts[] = {
	{ "www.example", "192.0.2.1" },
	{ "db.example", "10.0.0.5" },
	{ "one.one", "1.1.1.1" },
	{ "a.name.so.long.that.it.would.not.fit.into.a.column.example", "10.0.0.6" },
	{ "six.example", "2001:db8::6" },
};

static struct { const char *name; int port; const char *protocols; } ports[] = {
	{ "http", 80, "tcp" }, { "https", 443, "tcp udp" }, { "domain", 53, "tcp udp" }, { "ntp", 123, "udp" }, { "ftp", 21, "tcp" },
};

#define COUNT(table) (sizeof(table) / sizeof(*table))

static struct hostent *host(const char *name, const char *text, int family)
{
	static struct hostent found;
	static unsigned char addr[16];
	static char *addrs[2], *none[1];

	if (inet_pton(family, text, addr) != 1)
		return NULL;
	addrs[0] = (char *)addr;
	found = (struct hostent){ (char *)name, none, family, family == AF_INET ? 4 : 16, addrs };
	return &found;
}

struct hostent *gethostbyname(const char *name)
{
	unsigned char addr[16];

	if (inet_pton(AF_INET, name, addr) == 1)
		return host(name, name, AF_INET);
	for (size_t i = 0; i < COUNT(hosts); i++)
		if (!strcmp(hosts[i].name, name))
			return host(hosts[i].name, hosts[i].addr, AF_INET);
	return NULL;
}

struct hostent *gethostbyaddr(const void *addr, socklen_t len, int family)
{
	unsigned char other[16];

	(void)len;
	for (size_t i = 0; i < COUNT(hosts); i++)
		if (inet_pton(family, hosts[i].addr, other) == 1 && !memcmp(other, addr, family == AF_INET ? 4 : 16))
			return host(hosts[i].name, hosts[i].addr, family);
	return NULL;
}

static struct servent *service(size_t i, const char *protocol)
{
	static struct servent found;
	static char *none[1];

	found = (struct servent){ (char *)ports[i].name, none, htons(ports[i].port), (char *)protocol };
	return &found;
}

struct servent *getservbyname(const char *name, const char *protocol)
{
	for (size_t i = 0; i < COUNT(ports); i++)
		if (!strcmp(ports[i].name, name) && (!protocol || strstr(ports[i].protocols, protocol)))
			return service(i, protocol);
	return NULL;
}

struct servent *getservbyport(int port, const char *protocol)
{
	for (size_t i = 0; i < COUNT(ports); i++)
		if (htons(ports[i].port) == port && (!protocol || strstr(ports[i].protocols, protocol)))
			return service(i, protocol);
	return NULL;
}
