/* silent PORT_FILE: a server that accepts everything and leaves polls without an answer, until its input ends.
 * It answers at once: posts of telemetry; requests for attributes, with how many polls wait; and every request that is
 * made with the token BUSY, with an object that differs every time. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT = STDIN_FILENO };

static void answer(int fd, const char *request) {
  static long waiting, answered;
  char body[64], text[256];
  if (strncmp(request, "GET ", 4) != 0 && strncmp(request, "POST ", 5) != 0) return; /* the rest of a longer one */
  if (strstr(request, "/telemetry HTTP/") != NULL) {
    static const char taken[] = "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n";
    if (write(fd, taken, sizeof taken - 1) < 0) close(fd);
    return;
  }
  bool attributes = strstr(request, "/attributes?") != NULL || strstr(request, "/attributes ") != NULL;
  if (!attributes && strstr(request, "/BUSY/") == NULL) {
    waiting++;
    return;
  }
  snprintf(body, sizeof body, attributes ? "{\"shared\":{\"waiting\":%ld}}" : "{\"n\":%ld}",
           attributes ? waiting : ++answered);
  int length = snprintf(text, sizeof text, "HTTP/1.1 200\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        strlen(body), body);
  if (write(fd, text, (size_t)length) < 0) close(fd);
}

static void watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int epoll = epoll_create1(0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (argc != 2 || bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 4096) != 0) return 1;
  getsockname(listener, (struct sockaddr *)&address, &size);
  FILE *file = fopen(argv[1], "w");
  if (file == NULL || fprintf(file, "%d\n", ntohs(address.sin_port)) < 0 || fclose(file) != 0) return 1;
  watch(epoll, listener);
  watch(epoll, INPUT);
  for (;;) {
    struct epoll_event events[64];
    int count = epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; i++) {
      int fd = events[i].data.fd;
      char request[2048];
      if (fd == listener) {
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
          watch(epoll, fd);
        }
        continue;
      }
      ssize_t length = read(fd, request, sizeof request - 1);
      if (length <= 0 && fd == INPUT) return 0;
      if (length <= 0) {
        close(fd);
        continue;
      }
      request[length] = '\0';
      answer(fd, request);
    }
  }
}
