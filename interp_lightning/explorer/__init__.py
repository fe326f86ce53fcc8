"""Look at paths of trained runs in the browser. Only `page` imports Gradio."""

HOST = "127.0.0.1"  # the page is for this machine only
