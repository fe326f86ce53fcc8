"""Look at paths of trained runs in the browser. Only `page` imports Gradio."""
